"""`python -m jaxseg_xai`: the command line."""

import sys

from jaxseg_xai.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
