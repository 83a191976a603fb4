#!/bin/sh
# Makes the environment of the image, in two steps so that a changed line of cpn does not fetch all its dependencies again:
#
#   install.sh dependencies PREFIX   a virtual environment with what requirements-image.lock names, each file checked by its hash
#   install.sh package PREFIX        cpn itself, from the sources in this folder
set -eu

step=${1:?which step? dependencies or package}
prefix=${2:?where to? name a folder}
python=${PYTHON:-python3}
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 UV_LINK_MODE=copy

case $step in
dependencies)
    "$python" -m venv "$prefix"
    # uv brings the rest several times faster; it and the build backend are taken out again.
    "$prefix/bin/python" -m pip install --quiet --require-hashes -r requirements-uv.lock
    "$prefix/bin/uv" pip install --quiet --python "$prefix/bin/python" --require-hashes --compile-bytecode -r requirements-image.lock
    ;;
package)
    "$prefix/bin/uv" pip install --quiet --python "$prefix/bin/python" --no-deps --no-build-isolation --offline --compile-bytecode .
    "$prefix/bin/uv" pip uninstall --quiet --python "$prefix/bin/python" uv pip editables hatchling
    "$prefix/bin/cpn" --version
    ;;
*)
    echo "install.sh: there is no step $step; there are dependencies and package" >&2
    exit 2
    ;;
esac
