# A container with rlbench and all of its extras that are small.
#
#   docker build -t rlbench .                                                                          # CPU
#   docker build -t rlbench-gpu --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .       # GPU
#   docker run --rm -v "$PWD/runs:/work/runs" rlbench run bear --env halfcheetah-medium --updates 2000
#   docker run --rm --gpus all -v "$PWD/runs:/work/runs" rlbench-gpu run bear --env halfcheetah-medium --device cuda
FROM python:3.12-slim-bookworm

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=digits,export,film,minigrid,plot,sb3,transfers

# EGL lets MuJoCo draw without a screen; the compiler is for `rlbench run --compile`.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libegl1 libegl-mesa0 libgl1-mesa-dri \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /source
COPY . .
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" 'torch>=2.6,<2.14' \
    && pip install --no-cache-dir ".[$EXTRAS]" \
    && rm -rf /source

RUN useradd --create-home --uid 1000 rlbench && mkdir /work && chown rlbench /work
USER 1000
WORKDIR /work
ENV MUJOCO_GL=egl
ENTRYPOINT ["rlbench"]
CMD ["--help"]
