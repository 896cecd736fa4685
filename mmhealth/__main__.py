"""``python -m mmhealth`` is the command ``mmhealth``."""

from mmhealth.cli import main

if __name__ == "__main__":
    main()
