"""The bundled model: two small trained encoders and their head, used where no other is set.

Here: where its files lie and what outputs say of it; the files themselves in `data/`. Not here: how
it is trained (`virnuc_assets.training`) and how good it is (`docs/mini_model.md`).
"""
