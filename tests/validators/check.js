// Checks messages with the unmodified `sns-validator` package, which fetches the certificate over https:
// a server of its own hands out the dispatcher's. (The certificate's address is not signed.)
const fs = require('fs');
const https = require('https');
const MessageValidator = require('sns-validator');

const [file, key, certificate] = process.argv.slice(2);
const told = JSON.parse(fs.readFileSync(file, 'utf8'));
const tls = { key: fs.readFileSync(key), cert: fs.readFileSync(certificate) };
const validator = new MessageValidator(/^localhost:\d+$/, 'utf8');
const validate = (message) =>
  new Promise((resolve) => validator.validate(message, (error) => resolve(error)));

const server = https.createServer(tls, (_, response) => response.end(told.certificate));
server.listen(0, 'localhost', async () => {
  const counts = { '1': 0, '2': 0 };
  for (const request of told.requests) {
    const message = JSON.parse(request.body);
    message.SigningCertURL = `https://localhost:${server.address().port}/certificate.pem`;
    const error = await validate(message);
    if (error) throw error;
    if (!(await validate({ ...message, Message: 'another' }))) throw new Error('a change was accepted');
    counts[message.SignatureVersion] += 1;
  }
  if (!counts['1'] || !counts['2']) throw new Error(JSON.stringify(counts));
  console.log('sns-validator', counts);
  process.exit(0);
});
