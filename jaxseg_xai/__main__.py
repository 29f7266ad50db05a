"""`python -m jaxseg_xai`: the command line."""

from jaxseg_xai.cli.main import command_line

if __name__ == "__main__":
    command_line()
