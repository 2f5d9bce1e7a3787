"""Datasets that Kedro lacks: folders of models and images, pages and pictures, each written whole or not at all."""
