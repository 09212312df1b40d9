<?php

// What the conformance runner does not reach: the end of a request, the double, arguments. Run it with php tests/run.php.

declare(strict_types=1);

use LicenseMetering\Client;
use LicenseMetering\DomainName;
use LicenseMetering\FakeClient;

spl_autoload_register(static function (string $class): void {
    require __DIR__ . '/../src/' . str_replace('\\', '/', substr($class, strlen('LicenseMetering\\'))) . '.php';
});

function expect(string $what, bool $holds): void
{
    if (!$holds) {
        fwrite(STDERR, "failed: $what\n");
        exit(1);
    }
}

if (($argv[1] ?? '') === 'request') {
    $client = new Client($argv[2], licenseKey: 'lic_1', token: 't', keys: '{"keys":[]}');
    $client->record('exports', 3, feature: 'pdf');
    exit(0); // Nothing is closed: the end of the request has to do it.
}

$server = stream_socket_server('tcp://127.0.0.1:0');
$url = 'http://' . stream_socket_get_name($server, false);
$request = proc_open([PHP_BINARY, __FILE__, 'request', $url], [], $pipes);
$connection = stream_socket_accept($server, 20);
$text = '';
while (!str_contains($text, "\r\n\r\n") || !str_ends_with($text, ']')) {
    $text .= fread($connection, 8192);
}
fwrite($connection, "HTTP/1.1 202 Accepted\r\nContent-Length: 28\r\nConnection: close\r\n\r\n" . '{"accepted":1,"rejected":[]}');
fclose($connection);
expect('the process ends well', proc_close($request) === 0);
$events = json_decode(explode("\r\n\r\n", $text, 2)[1], true);
expect('usage is sent at the end of a request', $events[0]['data'] === ['meter' => 'exports', 'quantity' => 3, 'feature' => 'pdf']);

$fake = FakeClient::valid('analytics');
expect('the double says yes', $fake->validate('shop.example')->features->has('analytics'));
expect('the double was asked', $fake->asked === ['shop.example']);

$client = new Client('http://127.0.0.1:9', keys: '{"keys":[]}');
foreach ([null, '', "a\nb", str_repeat('x', 8193)] as $key) {
    try {
        $client->validate('example.com', $key);
        expect('a license key that is none is refused', false);
    } catch (InvalidArgumentException) {
        // As it should be.
    }
}
foreach (["\xff.example", "\0", 'xn--' . str_repeat('9', 300), str_repeat('ü', 2000), str_repeat('.', 1000)] as $text) {
    expect('no text is a name that throws', DomainName::normalize($text) === null);
}
echo "ok\n";
