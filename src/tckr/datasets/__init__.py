"""The datasets that Kedro does not have: folders of models and images, written whole or not at all."""
