"""Values and state machines; no input or output happens here."""
