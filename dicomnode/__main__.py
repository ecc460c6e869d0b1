"""`python -m dicomnode`."""

from dicomnode import importing

with importing.much():
    from dicomnode.cli import main

main()
