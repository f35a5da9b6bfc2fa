<?php

declare(strict_types=1);

require __DIR__ . '/vendor/autoload.php';

$app = new App\App();
foreach ([[[], 'hello, world'], [['ann', 'bob'], 'hello, ann and bob']] as [$names, $want]) {
    $got = $app->run($names);
    if ($got !== $want) {
        echo "FAIL: got '$got', want '$want'\n";
        exit(1);
    }
    echo "ok: $got\n";
}
