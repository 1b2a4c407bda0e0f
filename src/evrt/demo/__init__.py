"""The demo: a reviewer of expense claims, as a user of evrt would write one."""
