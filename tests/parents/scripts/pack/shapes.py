"""What the package's main modules import relatively."""


class Square:
    def __init__(self, side):
        self.side = side
