// What the corpus cannot see: the vectors of RFC 8032, many tasks, and options. Exits with 1 where one fails.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Sockets;
using System.Reflection;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using LicenseMetering;

internal static class Tests
{
    private static int Main()
    {
        var failed = 0;
        foreach (var test in typeof(Tests).GetMethods(BindingFlags.NonPublic | BindingFlags.Static).Where(test => test.Name.StartsWith("Test")))
        {
            try
            {
                test.Invoke(null, null);
            }
            catch (TargetInvocationException error)
            {
                failed++;
                Console.WriteLine(test.Name + ": " + error.InnerException);
            }
        }
        return failed == 0 ? 0 : 1;
    }

    private static void Expect(bool condition, string what)
    {
        if (!condition)
        {
            throw new InvalidOperationException(what);
        }
    }

    /// <summary>RFC 8032, 7.1: TEST 1, 2, 3 and SHA(abc), and what must not be accepted.</summary>
    private static void TestVectorsOfRfc8032()
    {
        var type = typeof(LicenseClient).Assembly.GetType("LicenseMetering.Ed25519");
        var method = type.GetMethod("Verify", BindingFlags.Public | BindingFlags.Static);
        Func<byte[], byte[], byte[], bool> verify = (key, data, signature) => (bool)method.Invoke(null, new object[] { key, data, signature });
        foreach (var line in File.ReadAllLines(Path.Combine(AppContext.BaseDirectory, "rfc8032.txt")).Where(line => line[0] != '#'))
        {
            var parts = line.Split(' ').Select(FromHex).ToArray();
            byte[] key = parts[0], data = parts[1], signature = parts[2];
            Expect(verify(key, data, signature), line);
            for (var i = 0; i < 64; i += 9)
            {
                var changed = (byte[])signature.Clone();
                changed[i] ^= 1;
                Expect(!verify(key, data, changed), "a changed signature");
            }
            Expect(!verify(key, data.Concat(new byte[] { 0 }).ToArray(), signature), "a changed message");
            // S + L is the same number modulo the order, and a second spelling.
            var order = FromHex("edd3f55c1a631258d69cf7a2def9de14000000000000000000000000000000" + "10");
            var second = (byte[])signature.Clone();
            var carry = 0;
            for (var i = 0; i < 32; i++)
            {
                carry += second[32 + i] + order[i];
                second[32 + i] = (byte)carry;
                carry >>= 8;
            }
            Expect(carry != 0 || !verify(key, data, second), "a second spelling");
            Expect(!verify(key, data, signature.Take(63).ToArray()), "a short signature");
        }
        var tooLarge = Enumerable.Repeat((byte)0xFF, 32).ToArray();
        Expect(!verify(tooLarge, new byte[0], new byte[64]), "a key that is no number below p");
    }

    private static void TestManyTasksLoseNoUsage()
    {
        using (var service = new Service())
        using (var client = new LicenseClient(new LicenseClientOptions { Url = service.Url, LicenseKey = "lic_1" }))
        {
            var tasks = Enumerable.Range(0, 8).Select(_ => Task.Run(() =>
            {
                for (var i = 0; i < 500; i++)
                {
                    client.Record(new Usage("exports"));
                }
            }));
            Task.WaitAll(tasks.ToArray());
            Expect(client.FlushAsync(TimeSpan.FromSeconds(20)).Result, "flushed");
            var found = client.UsageStatistics;
            Expect(found.Sent == 4000 && found.Dropped == 0 && service.Requests <= 40, found.Sent + " in " + service.Requests);
            client.CloseAsync(TimeSpan.FromSeconds(1)).Wait();
            Expect(!client.Record(new Usage("exports")), "taken after the end");
        }
    }

    private static void TestMoreNamesThanCanBeAskedAboutAtOnceAreAskedOneAfterTheOther()
    {
        using (var service = new Service())
        {
            var options = new LicenseClientOptions { Url = service.Url, LicenseKey = "lic_1", PauseAfterFailure = TimeSpan.Zero };
            using (var client = new LicenseClient(options))
            {
                var asked = Enumerable.Range(0, 100).Select(number => client.ValidateAsync("a" + number + ".example.com"));
                var problems = Task.WhenAll(asked).Result.Select(result => result.Problem).Distinct().ToArray();
                Expect(problems.Length == 1 && problems[0] == "http_202", string.Join(" ", problems));
                Expect(service.Requests == 100, service.Requests + " requests");
            }
        }
    }

    private static void TestAFunctionOfTheApplicationThatThrowsKeepsNobodyWaiting()
    {
        var options = new LicenseClientOptions
        {
            Url = "http://127.0.0.1:9", LicenseKey = "lic_1", PauseAfterFailure = TimeSpan.Zero,
            OnProblem = _ => throw new InvalidOperationException("the application's own"),
        };
        using (var client = new LicenseClient(options))
        {
            Expect(client.Validate("a.example.com").Problem == "connection", "the first");
            Expect(client.Validate("a.example.com").Problem == "connection", "the second");
        }
    }

    private static void TestACanceledQuestionHasAResult()
    {
        using (var silent = new Service(answers: false))
        using (var client = new LicenseClient(new LicenseClientOptions { Url = silent.Url, LicenseKey = "lic_1" }))
        using (var cancel = new CancellationTokenSource())
        {
            var asked = client.ValidateAsync("a.example.com", cancel.Token);
            cancel.Cancel();
            Expect(asked.Result.Problem == "timeout", asked.Result.Problem);
        }
    }

    private static void TestWhatIsNoKeyAndNoNameHasAResult()
    {
        using (var client = new LicenseClient(new LicenseClientOptions { Url = "http://127.0.0.1:9", Keys = KeySet.Parse("{\"keys\":[]}") }))
        {
            Expect(client.Validate("a.example.com").Code == "not_found", "no key");
            Expect(client.Validate(null, "lic_1").Code == "domain_mismatch", "no name");
            Expect(client.ValidateOffline("a.example.com", null).Code == "invalid_signature", "no token");
            Expect(!client.Record(null) && !client.Record(new Usage(null)), "no usage");
        }
    }

    private static void TestNetworksAreAddressesAndRanges()
    {
        Func<string, string, bool> contains = (network, address) => Network.Parse(network).Contains(IPAddress.Parse(address));
        Expect(contains("10.0.0.0/8", "10.255.0.1") && contains("10.0.0.0/8", "::ffff:10.1.2.3"), "inside");
        Expect(!contains("10.0.0.0/8", "11.0.0.1") && !contains("10.0.0.0/8", "a00::1"), "outside");
        Expect(contains("0.0.0.0/0", "192.0.2.1") && contains("192.0.2.1", "192.0.2.1"), "all, and one");
        Expect(contains("2001:db8::/33", "2001:db8:7fff::1") && !contains("2001:db8::/33", "2001:db8:8000::1"), "an odd prefix");
        foreach (var text in new[] { "10.0.0.0/33", "10.0.0.0/", "ten", "::/129", "" })
        {
            try
            {
                Network.Parse(text);
            }
            catch (FormatException)
            {
                continue;
            }
            Expect(false, text);
        }
    }

    private static void TestNamesOfOtherScriptsAreConvertedByTheApplicationsFunction()
    {
        DomainName.ToAscii = name => name == "bücher.example" ? "xn--bcher-kva.example." : throw new ArgumentException();
        try
        {
            Expect(DomainName.Parse("Bücher.example:443").Text == "xn--bcher-kva.example", "converted");
            Expect(DomainName.Parse("другой.example") == null, "refused");
        }
        finally
        {
            DomainName.ToAscii = null;
        }
    }

    private static byte[] FromHex(string text) =>
        Enumerable.Range(0, text.Length / 2).Select(i => Convert.ToByte(text.Substring(2 * i, 2), 16)).ToArray();

    /// <summary>Takes every batch of usage, or is silent; nobody signs its verdicts.</summary>
    private sealed class Service : IDisposable
    {
        private readonly TcpListener listener = new TcpListener(IPAddress.Loopback, 0);
        private readonly bool answers;
        private readonly List<TcpClient> held = new List<TcpClient>();
        private int requests;

        public Service(bool answers = true)
        {
            this.answers = answers;
            listener.Start(200);
            Task.Factory.StartNew(Serve, TaskCreationOptions.LongRunning);
        }

        public string Url => "http://127.0.0.1:" + ((IPEndPoint)listener.LocalEndpoint).Port;

        public int Requests => Volatile.Read(ref requests);

        /// <summary>The listener ends with the process: it cannot be stopped everywhere while a thread waits for it.</summary>
        public void Dispose() => held.ForEach(client => client.Dispose());

        private void Serve()
        {
            try
            {
                while (true)
                {
                    var client = listener.AcceptTcpClient();
                    if (!answers)
                    {
                        held.Add(client);
                        continue;
                    }
                    using (client)
                    {
                        Answer(client.GetStream());
                    }
                }
            }
            catch (Exception error) when (error is SocketException || error is ObjectDisposedException || error is IOException)
            {
            }
        }

        private void Answer(NetworkStream stream)
        {
            var length = 0;
            for (var line = Line(stream); line.Length > 0; line = Line(stream))
            {
                const string Name = "content-length:";
                length = line.ToLowerInvariant().StartsWith(Name) ? int.Parse(line.Substring(Name.Length)) : length;
            }
            for (var left = length; left > 0;)
            {
                left -= stream.Read(new byte[left], 0, left);
            }
            Interlocked.Increment(ref requests);
            // In chunks, and after an interim answer, as proxies may send it.
            const string Text = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 202 Accepted\r\n" +
                "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\ne\r\n\"rejected\": []\r\n1\r\n}\r\n0\r\n\r\n";
            stream.Write(Encoding.ASCII.GetBytes(Text), 0, Text.Length);
        }

        private static string Line(NetworkStream stream)
        {
            var line = new StringBuilder();
            for (var letter = stream.ReadByte(); letter != '\n'; letter = stream.ReadByte())
            {
                line.Append(letter >= 0 ? (char)letter : throw new EndOfStreamException());
            }
            return line.ToString().TrimEnd('\r');
        }
    }
}
