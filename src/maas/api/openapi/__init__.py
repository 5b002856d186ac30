"""The OpenAPI document: one module puts it together, the others write its parts."""
