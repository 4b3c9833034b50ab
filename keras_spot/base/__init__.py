"""What every room stands on: errors, whole files, addresses, devices, the recipe, versions."""
