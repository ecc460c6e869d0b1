"""Series ⇄ arrays. Arrays are indexed (slice, row, column); coordinates are LPS, in mm."""
