#!/usr/bin/env node
// greet [--shout] [NAME…]: says hello.
const kleur = require("kleur");
const mri = require("mri");

function greet(names, { shout = false } = {}) {
  const text = `hello, ${names.length ? names.join(" and ") : "world"}`;
  return shout ? kleur.bold(text.toUpperCase()) : text;
}

module.exports = { greet };

if (require.main === module) {
  const { _: names, shout } = mri(process.argv.slice(2), { boolean: ["shout"] });
  console.log(greet(names, { shout }));
}
