"""Journeys: conversations that go step by step, with a typed state that outlives runs, crashes and deploys."""
