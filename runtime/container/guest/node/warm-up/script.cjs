// Loaded by a blank, for what loading it leaves behind in the loader of CommonJS.
exports.isWarm = true
