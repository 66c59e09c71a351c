"""The methods, a file each or one for a family that shares its algebra; a file in here is found by itself."""

import sys

from counterpoint.balance.lookup import classes_in

_classes = {each.__name__: each for each in classes_in(sys.modules[__name__]).values()}
globals().update(_classes)
__all__ = sorted(_classes)
