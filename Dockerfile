# The page in a container: torch for the CPU, an ordinary user, a health check. docs/deploy.md says how to run it.
FROM python:3.12-slim

# The index of torch's builds for the CPU; any other can be named, or none: --build-arg TORCH_INDEX=
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

WORKDIR /app
COPY requirements.txt constraints.txt ./
RUN pip install --prefer-binary ${TORCH_INDEX:+--extra-index-url $TORCH_INDEX} -r requirements.txt -c constraints.txt
COPY app.py ./
COPY vitmsn ./vitmsn
COPY assets ./assets
RUN python -m compileall -q vitmsn app.py

RUN useradd --create-home --uid 1000 visitor
USER visitor
ENV GRADIO_SERVER_NAME=0.0.0.0 GRADIO_SERVER_PORT=7860 GRADIO_TEMP_DIR=/tmp/vitmsn HF_HOME=/tmp/hub
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:7860/healthz', timeout=4)"]
CMD ["python", "app.py"]
