"""ptstress: a workbench for page-table locking and reclaim under real threads."""

from pathlib import Path

__version__ = "0.1.0"


def get_include() -> str:
    """Folder to pass to Cython's include path so that ``from cy.core.zap cimport ...`` works."""
    installed = Path(__file__).parent / "include"
    return str(installed if installed.is_dir() else Path(__file__).parent.parent)
