from ptstress.plugin import extensions
from setuptools import setup

setup(
    name="ptstress-lazy", version="1", py_modules=["lazy_scheme"],
    ext_modules=[*extensions("lazy.pyx"), *extensions("hasty.pyx"), *extensions("eager.pyx")],
    entry_points={"ptstress.schemes": ["lazy = lazy_scheme:SCHEMES"]},
)
