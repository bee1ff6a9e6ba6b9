# Operator and agent in one image: docker build -t REGISTRY/weaviate-backup-operator:TAG .
# It runs with a read-only root file system, without capabilities, as any user; agents run as Weaviate's own.
# The base is a digest, every package a hash: the same bytes whoever builds, whenever. Debian's own packages are its newest.
ARG BASE=debian:bookworm-20260918-slim@sha256:3783cc01769c7b2b1b83a5c5ad96c815348e28ed7da68e2e3687004faa906251
FROM ${BASE} AS build
RUN apt-get update && apt-get install --yes --no-install-recommends python3 python3-pip
WORKDIR /source
COPY operator/runtime.lock operator/build.lock ./
# The dependencies are a layer of their own: they change seldom, our code changes often. Wheels only: none runs code here.
RUN pip install --no-cache-dir --no-compile --no-deps --only-binary :all: --require-hashes --target /dependencies --requirement runtime.lock \
 && rm -rf /dependencies/bin \
 && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /dependencies \
 && pip install --no-cache-dir --no-deps --only-binary :all: --require-hashes --target /builder --requirement build.lock
COPY pyproject.toml README.md ./
COPY operator/weaviate_backup operator/weaviate_backup
RUN PYTHONPATH=/builder pip install --no-cache-dir --no-compile --no-deps --no-build-isolation --target /code . \
 && rm -rf /code/bin \
 && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /code

FROM ${BASE}
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3 ca-certificates \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* \
 && groupadd --gid 65532 weaviate-backup \
 && useradd --uid 65532 --gid 65532 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin weaviate-backup
COPY --from=build /dependencies /usr/local/lib/python3.11/dist-packages
COPY --from=build /code /usr/local/lib/python3.11/dist-packages
RUN for program in weaviate-backup-operator:cli kubectl-weaviate_backup:plugin.commands; do \
      printf '#!/usr/bin/python3\nfrom weaviate_backup.%s import main\n\nmain()\n' "${program#*:}" > "/usr/local/bin/${program%%:*}" \
      && chmod 755 "/usr/local/bin/${program%%:*}"; \
    done
# USER in the environment: some libraries ask for the user's name, and an arbitrary uid has none.
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 USER=weaviate-backup
USER 65532:65532
ENTRYPOINT ["weaviate-backup-operator"]
