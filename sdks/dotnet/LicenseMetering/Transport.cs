using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Threading.Tasks;

namespace LicenseMetering
{
    /// <summary>
    /// Why the service gave no answer that can be believed: timeout, connection, tls, pin_mismatch, too_large, http_503 (or another
    /// status) or untrusted.
    /// </summary>
    internal sealed class NoAnswer : Exception
    {
        public NoAnswer(string problem, bool isTemporary = false) : base(problem)
        {
            Problem = problem;
            IsTemporary = isTemporary;
        }

        public string Problem { get; }

        public bool IsTemporary { get; }

        public TimeSpan RetryAfter { get; set; }
    }

    /// <summary>A time limit for a whole exchange, by a clock that nobody sets.</summary>
    internal sealed class Deadline
    {
        private readonly Stopwatch watch = Stopwatch.StartNew();
        private readonly TimeSpan limit;

        public Deadline(TimeSpan limit) => this.limit = limit;

        public TimeSpan Left => limit - watch.Elapsed;

        public bool IsOver => Left <= TimeSpan.Zero;

        public Deadline AtMost(TimeSpan other) => new Deadline(other < Left ? other : Left);

        /// <summary>The task's result, or NoAnswer where the time ends first; whatever the task does later is nobody's matter.</summary>
        public async Task<T> Within<T>(Task<T> task)
        {
            await Within((Task)task).ConfigureAwait(false);
            return await task.ConfigureAwait(false);
        }

        public async Task Within(Task task)
        {
            var left = Left;
            if (left > TimeSpan.Zero && !task.IsCompleted)
            {
                using (var cancel = new System.Threading.CancellationTokenSource())
                {
                    await Task.WhenAny(task, Task.Delay(left, cancel.Token)).ConfigureAwait(false);
                    cancel.Cancel();
                }
            }
            if (!task.IsCompleted)
            {
                _ = task.ContinueWith(late => late.Exception, TaskContinuationOptions.OnlyOnFaulted);
                throw new NoAnswer("timeout", true);
            }
            await task.ConfigureAwait(false);
        }
    }

    internal sealed class HttpRequest
    {
        public string Method { get; set; }

        public string Path { get; set; }

        public List<(string Name, string Value)> Headers { get; set; }

        public byte[] Body { get; set; }

        public Deadline Deadline { get; set; }

        public int Limit { get; set; }
    }

    internal sealed class HttpAnswer
    {
        public int Status { get; set; }

        /// <summary>Names in lower case.</summary>
        public List<(string Name, string Value)> Headers { get; set; }

        public byte[] Body { get; set; }

        public string Header(string name) => Headers.Where(header => header.Name == name).Select(header => header.Value).FirstOrDefault();

        /// <summary>What a status means that is not the one that was hoped for.</summary>
        public NoAnswer Refusal()
        {
            var isTemporary = Status == 408 || Status == 429 || Status >= 500;
            var failure = new NoAnswer("http_" + Status.ToString(CultureInfo.InvariantCulture), isTemporary);
            var text = Header("retry-after");
            if (isTemporary && int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var seconds) && seconds < 1 << 20)
            {
                failure.RetryAfter = TimeSpan.FromSeconds(seconds);
            }
            return failure;
        }
    }

    /// <summary>One bounded request: no redirect is followed, no body exceeds its limit, no answer takes longer than its deadline.</summary>
    internal sealed class Transport
    {
        private readonly Uri url;
        private readonly string host, authority;
        private readonly List<byte[]> pins;
        private readonly X509Certificate2Collection authorities;
        private readonly LicenseClientOptions options;

        public Transport(LicenseClientOptions options)
        {
            this.options = options;
            url = ReadUrl(options.Url);
            host = url.HostNameType == UriHostNameType.IPv6 ? url.DnsSafeHost : url.IdnHost;
            authority = url.HostNameType == UriHostNameType.IPv6 ? url.Host : url.IdnHost;
            authority += url.IsDefaultPort ? "" : ":" + url.Port.ToString(CultureInfo.InvariantCulture);
            pins = ReadPins(options.Pins);
            if (pins.Count > 0 && url.Scheme != "https")
            {
                throw new ArgumentException("Pins need https");
            }
            authorities = options.CaFile == null ? null : ReadAuthorities(options.CaFile);
        }

        public async Task<HttpAnswer> SendAsync(HttpRequest request)
        {
            Socket socket = null;
            try
            {
                socket = await ConnectAsync(request.Deadline.AtMost(options.ConnectTimeout)).ConfigureAwait(false);
                using (var plain = new NetworkStream(socket, false))
                using (var stream = url.Scheme == "https" ? await SecureAsync(plain, request).ConfigureAwait(false) : plain)
                {
                    return await ExchangeAsync(stream, request).ConfigureAwait(false);
                }
            }
            catch (Exception error) when (!(error is NoAnswer))
            {
                // Whatever the layers below throw: there is no answer.
                throw new NoAnswer(request.Deadline.IsOver ? "timeout" : "connection", true);
            }
            finally
            {
                socket?.Dispose();
            }
        }

        private async Task<Socket> ConnectAsync(Deadline deadline)
        {
            var addresses = AsAddress() ?? await deadline.Within(Dns.GetHostAddressesAsync(host)).ConfigureAwait(false);
            for (var i = 0; ; i++)
            {
                if (i == addresses.Length)
                {
                    throw new NoAnswer("connection", true);
                }
                Socket socket = null;
                try
                {
                    socket = new Socket(addresses[i].AddressFamily, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
                    await deadline.Within(socket.ConnectAsync(addresses[i], url.Port)).ConfigureAwait(false);
                    return socket;
                }
                catch (SocketException) when (i + 1 < addresses.Length)
                {
                    socket?.Dispose();
                }
                catch
                {
                    socket?.Dispose();
                    throw;
                }
            }
        }

        private IPAddress[] AsAddress() => IPAddress.TryParse(host, out var address) ? new[] { address } : null;

        private async Task<Stream> SecureAsync(Stream plain, HttpRequest request)
        {
            var isRefused = false;
            var stream = new SslStream(plain, false, (_, certificate, chain, errors) =>
            {
                isRefused = !IsTrusted(certificate, chain, errors);
                return !isRefused;
            });
            try
            {
                var deadline = request.Deadline.AtMost(options.ConnectTimeout);
                await deadline.Within(stream.AuthenticateAsClientAsync(host, null, SslProtocols.None, false)).ConfigureAwait(false);
                // What the system allows may be older.
                if (stream.SslProtocol < SslProtocols.Tls12)
                {
                    throw new NoAnswer("connection", true);
                }
                CheckPins(stream.RemoteCertificate.GetRawCertData());
                return stream;
            }
            catch (Exception error)
            {
                stream.Dispose();
                if (isRefused && !(error is NoAnswer))
                {
                    throw new NoAnswer("tls");
                }
                throw;
            }
        }

        private bool IsTrusted(X509Certificate certificate, X509Chain found, SslPolicyErrors errors)
        {
            if (authorities == null)
            {
                return errors == SslPolicyErrors.None;
            }
            if (certificate == null || (errors & ~SslPolicyErrors.RemoteCertificateChainErrors) != SslPolicyErrors.None)
            {
                return false;
            }
            // .NET Standard knows no trust but the system's: the chain is built with any end, which must be one of the file's.
            using (var chain = new X509Chain())
            {
                chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
                chain.ChainPolicy.VerificationFlags = X509VerificationFlags.AllowUnknownCertificateAuthority;
                chain.ChainPolicy.ApplicationPolicy.Add(new Oid("1.3.6.1.5.5.7.3.1"));
                chain.ChainPolicy.ExtraStore.AddRange(authorities);
                foreach (var element in found.ChainElements)
                {
                    chain.ChainPolicy.ExtraStore.Add(element.Certificate);
                }
                const X509ChainStatusFlags Unknown = X509ChainStatusFlags.UntrustedRoot | X509ChainStatusFlags.PartialChain;
                if (!chain.Build(new X509Certificate2(certificate)) || chain.ChainStatus.Any(status => (status.Status & ~Unknown) != 0))
                {
                    return false;
                }
                return chain.ChainElements.Cast<X509ChainElement>().Any(element =>
                    authorities.Cast<X509Certificate2>().Any(known => known.RawData.AsSpan().SequenceEqual(element.Certificate.RawData)));
            }
        }

        /// <summary>Beside the normal checks, never in their place.</summary>
        private void CheckPins(byte[] certificate)
        {
            if (pins.Count == 0)
            {
                return;
            }
            var digest = Encoded.Sha256(Der.PublicKey(certificate));
            if (pins.Any(pin => CryptographicOperations.FixedTimeEquals(pin, digest)))
            {
                return;
            }
            options.Report("pin_mismatch");
            if (options.PinMode == PinMode.Enforce)
            {
                throw new NoAnswer("pin_mismatch");
            }
        }

        private async Task<HttpAnswer> ExchangeAsync(Stream stream, HttpRequest request)
        {
            var head = new StringBuilder();
            head.Append(request.Method).Append(' ').Append(url.AbsolutePath.TrimEnd('/')).Append(request.Path).Append(" HTTP/1.1\r\n");
            head.Append("Host: ").Append(authority).Append("\r\nConnection: close\r\nContent-Length: ");
            head.Append(request.Body.Length.ToString(CultureInfo.InvariantCulture)).Append("\r\n");
            foreach (var header in request.Headers)
            {
                head.Append(header.Name).Append(": ").Append(header.Value).Append("\r\n");
            }
            var bytes = Encoding.ASCII.GetBytes(head.Append("\r\n").ToString()).Concat(request.Body).ToArray();
            await request.Deadline.Within(stream.WriteAsync(bytes, 0, bytes.Length)).ConfigureAwait(false);
            return await new HttpReader(stream, request.Deadline).AnswerAsync(request.Limit).ConfigureAwait(false);
        }

        private static Uri ReadUrl(string text)
        {
            if (!Uri.TryCreate(text, UriKind.Absolute, out var url) || (url.Scheme != "https" && url.Scheme != "http") ||
                url.Host.Length == 0 || url.Query.Length > 0 || url.Fragment.Length > 0 || url.UserInfo.Length > 0)
            {
                throw new ArgumentException("Url must be https://host[:port][/path]");
            }
            if (url.Scheme == "http" && !IsLoopback(url))
            {
                throw new ArgumentException("Url must be https: license keys and tokens are secrets (http is for loopback addresses)");
            }
            return url;
        }

        private static bool IsLoopback(Uri url) =>
            url.Host == "localhost" || (IPAddress.TryParse(url.DnsSafeHost, out var address) && IPAddress.IsLoopback(address));

        private static List<byte[]> ReadPins(IEnumerable<string> pins)
        {
            const string Prefix = "sha256/";
            var digests = new List<byte[]>();
            foreach (var pin in pins ?? Enumerable.Empty<string>())
            {
                var isPin = pin != null && pin.StartsWith(Prefix, StringComparison.Ordinal);
                digests.Add((isPin ? Encoded.FromDigest(pin.Substring(Prefix.Length)) : null) ?? throw new ArgumentException(
                    "a pin must be sha256/ and the base64 of the SHA-256 of a public key (SPKI)"));
            }
            if (digests.Count > 0 && digests.Select(Convert.ToBase64String).Distinct().Count() < 2)
            {
                throw new ArgumentException("Pins must be at least two: without a spare one, a new key of the service locks every client out");
            }
            return digests;
        }

        private static X509Certificate2Collection ReadAuthorities(string file)
        {
            const string Begin = "-----BEGIN CERTIFICATE-----", End = "-----END CERTIFICATE-----";
            var found = new X509Certificate2Collection();
            var text = File.ReadAllText(file);
            for (var at = text.IndexOf(Begin, StringComparison.Ordinal); at >= 0; at = text.IndexOf(Begin, at, StringComparison.Ordinal))
            {
                at += Begin.Length;
                var end = text.IndexOf(End, at, StringComparison.Ordinal);
                if (end < 0)
                {
                    break;
                }
                try
                {
                    found.Add(new X509Certificate2(Convert.FromBase64String(text.Substring(at, end - at))));
                }
                catch (Exception error) when (error is FormatException || error is CryptographicException)
                {
                    throw new ArgumentException("CaFile holds what is no certificate");
                }
            }
            return found.Count > 0 ? found : throw new ArgumentException("CaFile holds no certificate in PEM");
        }
    }

    /// <summary>What is needed of X.509.</summary>
    internal static class Der
    {
        /// <summary>The bytes of the public key (SubjectPublicKeyInfo) of a certificate, as they stand there.</summary>
        public static byte[] PublicKey(byte[] certificate)
        {
            var at = Content(certificate, Content(certificate, 0));
            // The version, where there is one; the serial number, the algorithm, the issuer, the times, the subject.
            at = certificate[at] == 0xA0 ? End(certificate, at) : at;
            for (var i = 0; i < 5; i++)
            {
                at = End(certificate, at);
            }
            return certificate.AsSpan(at, End(certificate, at) - at).ToArray();
        }

        private static int Content(byte[] data, int at) => at + (data[at + 1] < 0x80 ? 2 : 2 + (data[at + 1] & 0x7F));

        private static int End(byte[] data, int at)
        {
            var content = Content(data, at);
            var length = (int)data[at + 1];
            if (length >= 0x80)
            {
                length = 0;
                for (var i = at + 2; i < content; i++)
                {
                    length = checked((length << 8) | data[i]);
                }
            }
            return checked(content + length);
        }
    }
}
