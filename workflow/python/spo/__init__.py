"""The package of this checkout. Jobs find it here, in a folder that has nothing else, installed or not."""

import sys
from importlib import util
from os.path import abspath, dirname, join

_folder = abspath(join(dirname(abspath(__file__)), "../../../spo"))
_spec = util.spec_from_file_location(__name__, join(_folder, "__init__.py"), submodule_search_locations=[_folder])
sys.modules[__name__] = util.module_from_spec(_spec)
_spec.loader.exec_module(sys.modules[__name__])
