"""The conformance statement: what this node offers and asks for, in the order of PS3.2."""
