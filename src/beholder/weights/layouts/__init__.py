"""Publishers' names of the parts' parameters, as data: one module for each kind of part."""
