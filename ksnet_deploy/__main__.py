"""``python -m ksnet_deploy``: the command line."""

from ksnet_deploy.cli.app import main

if __name__ == "__main__":
    main()
