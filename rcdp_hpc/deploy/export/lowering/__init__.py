"""From trained models to programs: one module for each kind of part."""

from rcdp_hpc.deploy.export.lowering.lower import lower, refuse_user_classes

__all__ = ["lower", "refuse_user_classes"]
