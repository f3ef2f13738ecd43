"""Settings of the site: `make docs` builds it, without the network, and takes warnings for errors."""

import sys
from pathlib import Path

# The reference of the Python interface imports the package of this checkout.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sensai import __version__

project = "sensAI"
version = release = __version__
language = "en"
extensions = [
    "myst_nb",  # pages in Markdown, and notebooks
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["extending/example_package", "results/*/*"]

myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence", "deflist"]
# Links of the form page.md#heading are checked down to this level.
myst_heading_anchors = 4
# Notebooks are executed by the tests, which have stores and time.
nb_execution_mode = "off"

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"sensAI {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"navigation_with_keys": True}
# The pages' sources are in the repository.
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
copybutton_prompt_text = "$ "
