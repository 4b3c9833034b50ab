"""`python -m keras_spot`: the command `keras-spot`."""

from keras_spot.cli import main

if __name__ == "__main__":
    main()
