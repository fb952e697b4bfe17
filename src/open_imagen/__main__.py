"""python -m open_imagen: the same as the command `imagen`."""

from open_imagen.cli.main import main

if __name__ == "__main__":
    main()
