"""TensorRT engines: targets, the build in a child process, the sidecar that describes and guards an engine."""
