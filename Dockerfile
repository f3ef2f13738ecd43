# The demo on CPU, and whatever else one calls with `sensai`:
#   docker build --tag sensai .
#   docker run --rm sensai
#   docker run --rm --volume "$PWD:/work" --workdir /work sensai sensai prune --ratio 0.1
FROM python:3.12-slim-bookworm

# The newest of the distribution, which has the fixes.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends make \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 1000 --create-home sensai

USER 1000
WORKDIR /home/sensai

# PyTorch's builds for CPU come from an index of their own. MLflow looks for a git program, which the image does without.
ENV PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu \
    PIP_NO_CACHE_DIR=1 \
    GIT_PYTHON_REFRESH=quiet \
    PATH=/home/sensai/.venv/bin:$PATH

# `make` takes this environment for its own, and so does not install what only developers need.
COPY --chown=1000 . .
RUN python -m venv .venv \
 && pip install --constraint constraints.txt --editable . \
 && touch .venv/installed

CMD ["make", "demo"]
