"""Experiment programs: each file says in its first line what it answers, and runs as
`python -m experiments.<name>`."""
