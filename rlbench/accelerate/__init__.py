"""Updates of any learner compiled, batched over seeds, or in another precision; knows no algorithm."""
