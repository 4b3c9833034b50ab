"""`python -m keras_spot.cli`."""

from keras_spot.cli import main

if __name__ == "__main__":
    main()
