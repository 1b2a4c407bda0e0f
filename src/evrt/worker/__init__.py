"""Workers: they take runs from the queue and execute them, and any of them may die at any moment."""
