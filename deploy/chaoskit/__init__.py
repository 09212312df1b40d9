"""The parts of deploy/chaos. Only Python's standard library is used."""
