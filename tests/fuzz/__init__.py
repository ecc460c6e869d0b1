"""Fuzzing, by `make fuzz MINUTES=n`; what it found is a test elsewhere. Targets take libFuzzer's options."""
