// SPDX-License-Identifier: LGPL-2.1-or-later
// The server that one would write in Node.js with mqtt.js. bench/server compares with it.
const mqtt = require("mqtt");

const client = mqtt.connect(`mqtt://127.0.0.1:${process.argv[2]}`);
client.on("connect", () => {
  client.stream.setNoDelay(true);
  client.subscribe("+/telemetry");
});
client.on("message", (topic, payload) => {
  const telemetry = JSON.parse(payload);
  if ("light" in telemetry) {
    const command = JSON.stringify({ led_on: telemetry.light < 300 });
    client.publish(`${topic.split("/")[0]}/commands`, command);
  }
});
