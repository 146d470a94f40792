"""`python -m topwork`: the same as the `topwork` command."""

from topwork.cli.app import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
