"""Rules in CEL over the facts of a series: compiled once, evaluated often, explained on demand."""
