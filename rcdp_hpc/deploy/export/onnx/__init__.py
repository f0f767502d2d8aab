"""Programs as ONNX files. Only `rcdp_hpc.deploy.export.onnx.writer` can be imported without the package ``onnx``."""
