"""Recipes that train the demonstration models on real data that ships inside scikit-learn and statsmodels.

`recipe.py` is the contract and the table of names; one file per family holds the models and how they are trained;
`data.py` and `digits.py` split rows, `fitting.py` chooses epochs and trains, `card.py` writes down the facts.
"""
