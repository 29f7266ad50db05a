"""Models as traced programs: equations, sites, costs, memory."""
