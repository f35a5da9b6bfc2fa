const { test } = require("uvu");
const assert = require("uvu/assert");
const { greet } = require("../greet.js");

test("greets the world", () => assert.is(greet([]), "hello, world"));
test("greets people", () => assert.is(greet(["ann", "bob"]), "hello, ann and bob"));
test("shouts", () => assert.match(greet(["ann"], { shout: true }), "HELLO, ANN"));

test.run();
