"""A module that scripts find through ``sys.path``."""


class Thing:
    def __init__(self, number):
        self.number = number


def triple(number):
    return 3 * number
