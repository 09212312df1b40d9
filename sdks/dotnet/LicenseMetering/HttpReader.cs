using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Text;
using System.Threading.Tasks;

namespace LicenseMetering
{
    /// <summary>Reads one answer of HTTP/1.1.</summary>
    internal sealed class HttpReader
    {
        private const int MaximumHeadBytes = 1 << 16;

        private readonly Stream stream;
        private readonly Deadline deadline;
        private readonly byte[] buffer = new byte[8192];
        private int at, count;
        private int budget = MaximumHeadBytes;

        public HttpReader(Stream stream, Deadline deadline)
        {
            this.stream = stream;
            this.deadline = deadline;
        }

        public async Task<HttpAnswer> AnswerAsync(int limit)
        {
            var answer = await HeadAsync().ConfigureAwait(false);
            // 100 Continue and its like come before the answer.
            while (answer.Status < 200)
            {
                answer = await HeadAsync().ConfigureAwait(false);
            }
            var body = new MemoryStream();
            if (answer.Status == 204 || answer.Status == 304)
            {
                answer.Body = new byte[0];
                return answer;
            }
            var length = answer.Header("content-length");
            if (answer.Header("transfer-encoding") != null)
            {
                Require(string.Equals(answer.Header("transfer-encoding"), "chunked", StringComparison.OrdinalIgnoreCase));
                await ChunksAsync(body, limit).ConfigureAwait(false);
            }
            else if (length != null)
            {
                await TakeAsync(body, Number(length, NumberStyles.None), limit).ConfigureAwait(false);
            }
            else
            {
                await RestAsync(body, limit).ConfigureAwait(false);
            }
            answer.Body = body.ToArray();
            return answer;
        }

        private static void Require(bool condition)
        {
            if (!condition)
            {
                throw new FormatException("no HTTP");
            }
        }

        private static long Number(string digits, NumberStyles style)
        {
            Require(long.TryParse(digits, style, CultureInfo.InvariantCulture, out var number));
            return number;
        }

        private async Task<HttpAnswer> HeadAsync()
        {
            var line = await LineAsync().ConfigureAwait(false);
            Require(line.StartsWith("HTTP/1.", StringComparison.Ordinal) && line.Length >= 12 && line[8] == ' ');
            var status = (int)Number(line.Substring(9, 3), NumberStyles.None);
            Require(status >= 100 && status < 600);
            var headers = new List<(string, string)>();
            for (line = await LineAsync().ConfigureAwait(false); line.Length > 0; line = await LineAsync().ConfigureAwait(false))
            {
                var colon = line.IndexOf(':');
                Require(colon > 0);
                headers.Add((line.Substring(0, colon).ToLowerInvariant(), line.Substring(colon + 1).Trim(' ', '\t')));
            }
            return new HttpAnswer { Status = status, Headers = headers };
        }

        private async Task<string> LineAsync()
        {
            var line = new StringBuilder();
            while (true)
            {
                if (at == count)
                {
                    await MoreAsync().ConfigureAwait(false);
                }
                Require(budget-- > 0);
                var letter = (char)buffer[at++];
                if (letter == '\n')
                {
                    var text = line.ToString();
                    return text.EndsWith("\r", StringComparison.Ordinal) ? text.Substring(0, text.Length - 1) : text;
                }
                line.Append(letter);
            }
        }

        /// <summary>False at the end.</summary>
        private async Task<bool> FillAsync()
        {
            at = 0;
            count = await deadline.Within(stream.ReadAsync(buffer, 0, buffer.Length)).ConfigureAwait(false);
            return count > 0;
        }

        private async Task MoreAsync()
        {
            if (!await FillAsync().ConfigureAwait(false))
            {
                throw new EndOfStreamException();
            }
        }

        private async Task TakeAsync(MemoryStream body, long length, int limit)
        {
            if (length > limit - body.Length)
            {
                throw new NoAnswer("too_large");
            }
            while (length > 0)
            {
                if (at == count)
                {
                    await MoreAsync().ConfigureAwait(false);
                }
                var taken = (int)Math.Min(length, count - at);
                body.Write(buffer, at, taken);
                at += taken;
                length -= taken;
            }
        }

        private async Task RestAsync(MemoryStream body, int limit)
        {
            do
            {
                body.Write(buffer, at, count - at);
                if (body.Length > limit)
                {
                    throw new NoAnswer("too_large");
                }
            }
            while (await FillAsync().ConfigureAwait(false));
        }

        private async Task ChunksAsync(MemoryStream body, int limit)
        {
            while (true)
            {
                var line = (await LineAsync().ConfigureAwait(false)).Split(';')[0].Trim();
                Require(line.Length <= 8);
                var length = Number(line, NumberStyles.AllowHexSpecifier);
                if (length == 0)
                {
                    return;
                }
                await TakeAsync(body, length, limit).ConfigureAwait(false);
                // Each chunk's own line is no part of the head.
                budget = MaximumHeadBytes;
                Require((await LineAsync().ConfigureAwait(false)).Length == 0);
            }
        }
    }
}
