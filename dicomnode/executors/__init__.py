"""Where runs happen when not on this machine: a Ray cluster. Ray is imported only here, when used."""
