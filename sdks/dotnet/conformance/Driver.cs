// Lets the conformance runner try this SDK: a JSON object a line in, one a line out.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net;
using System.Text;
using System.Text.Json;
using System.Threading;
using System.Threading.Tasks;
using LicenseMetering;
using LicenseMetering.AspNetCore;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;

using Members = System.Collections.Generic.Dictionary<string, object>;

internal sealed class Driver
{
    private readonly List<string> problems = new List<string>();
    private LicenseClient client;
    private string licenseKey = "";
    private long offset;

    private static void Main()
    {
        var utf8 = new UTF8Encoding(false);
        var driver = new Driver();
        using (var input = new StreamReader(Console.OpenStandardInput(), utf8))
        using (var output = new StreamWriter(Console.OpenStandardOutput(), utf8) { AutoFlush = true, NewLine = "\n" })
        {
            for (var line = input.ReadLine(); line != null; line = input.ReadLine())
            {
                using (var question = JsonDocument.Parse(line))
                {
                    output.WriteLine(JsonSerializer.Serialize(driver.Answer(new Question(question.RootElement))));
                }
            }
        }
    }

    private static Members Refused(TokenRefusedException refusal)
    {
        var members = new Members { ["refusal"] = refusal.Code };
        if (refusal.Claim != null)
        {
            members["claim"] = refusal.Claim;
        }
        return members;
    }

    private Members Answer(Question q)
    {
        switch (q.Text("op"))
        {
            case "hello":
                return new Members { ["idna"] = false, ["closesAtExit"] = true, ["frameworks"] = new[] { "plain", "ASP.NET Core stand-in" } };
            case "keyset": return KeySetAnswer(q);
            case "license":
                try
                {
                    return new Members { ["claims"] = Shown(LicenseClaims.Verify(q.Text("token"), KeySet.Parse(q.Text("keys")))) };
                }
                catch (TokenRefusedException refusal)
                {
                    return Refused(refusal);
                }
            case "verdict": return VerdictAnswer(q);
            case "domain":
                var name = DomainName.Parse(q.Text("text"));
                return new Members { ["name"] = name?.Text, ["local"] = name != null && name.IsLocal };
            case "covers":
                return new Members { ["covers"] = DomainName.Parse(q.Text("domain"))?.IsCoveredBy(q.Texts("bound")) ?? false };
            case "offline": return OfflineAnswer(q);
            case "middleware": return MiddlewareAnswer(q);
            case "open": return Open(q.Of("options"));
            default: return ClientAnswer(q);
        }
    }

    private static Members KeySetAnswer(Question q)
    {
        try
        {
            var keys = KeySet.Parse(q.Text("set")).Keys;
            return new Members { ["keys"] = keys.Select(key => key.Id + " " + key.Algorithm + " " + key.Purpose).ToArray() };
        }
        catch (InvalidKeySetException)
        {
            return new Members { ["invalid"] = true };
        }
    }

    private static Members VerdictAnswer(Question q)
    {
        try
        {
            Verdict.Verify(q.Text("token"), KeySet.Parse(q.Text("keys")), new VerdictQuestion
            {
                LicenseKey = q.Text("licenseKey"),
                Domain = DomainName.Parse(q.Text("domain")),
                Nonce = q.Text("nonce") ?? "",
                Now = (long)q.Number("now", 0),
            });
            return new Members();
        }
        catch (TokenRefusedException refusal)
        {
            return Refused(refusal);
        }
    }

    private static Members OfflineAnswer(Question q)
    {
        var code = "invalid_signature";
        try
        {
            var claims = LicenseClaims.Verify(q.Text("token"), KeySet.Parse(q.Text("keys")));
            code = claims.Judge(q.Text("domain"), DateTimeOffset.FromUnixTimeMilliseconds((long)q.Number("now", 0)));
        }
        catch (TokenRefusedException)
        {
        }
        return new Members { ["code"] = code, ["valid"] = code == "valid" || code == "grace" };
    }

    private Members ClientAnswer(Question q)
    {
        var timeout = TimeSpan.FromSeconds(q.Number("timeout", 5));
        var key = q.Text("licenseKey") ?? licenseKey;
        var count = (int)q.Number("count", 1);
        switch (q.Text("op"))
        {
            case "validate": return Shown(client.Validate(q.Text("domain"), key));
            case "validateOffline": return Shown(client.ValidateOffline(q.Text("domain"), key));
            case "validateMany":
                var asked = Enumerable.Range(0, count).Select(_ => client.ValidateAsync(q.Text("domain"), key)).ToArray();
                return new Members { ["results"] = Task.WhenAll(asked).GetAwaiter().GetResult().Select(Shown).ToArray() };
            case "clock":
                Interlocked.Exchange(ref offset, (long)q.Number("offset", 0));
                return new Members();
            case "record":
                var usage = new Usage(q.Text("meter"), (long)q.Number("quantity", 1));
                return new Members { ["accepted"] = Enumerable.Range(0, count).Count(_ => client.Record(usage)) };
            case "flush":
                var flushed = client.FlushAsync(timeout).GetAwaiter().GetResult();
                return new Members { ["flushed"] = flushed, ["statistics"] = Statistics() };
            case "statistics": return new Members { ["statistics"] = Statistics() };
            case "close":
                client.CloseAsync(timeout).GetAwaiter().GetResult();
                return new Members { ["statistics"] = Statistics() };
            case "problems":
                lock (problems)
                {
                    var taken = problems.ToArray();
                    problems.Clear();
                    return new Members { ["problems"] = taken };
                }
            default: return new Members();
        }
    }

    private Members Statistics()
    {
        var found = client.UsageStatistics;
        return new Members
        {
            ["accepted"] = found.Accepted, ["sent"] = found.Sent, ["rejected"] = found.Rejected,
            ["dropped"] = found.Dropped, ["pending"] = found.Pending,
        };
    }

    private Members Open(Question o)
    {
        Interlocked.Exchange(ref offset, 0);
        licenseKey = o.Text("licenseKey") ?? "";
        try
        {
            var made = new LicenseClientOptions
            {
                Url = o.Text("url"), LicenseKey = licenseKey, Token = o.Text("token"), CaFile = o.Text("caFile"),
                Keys = o.Text("keys") == null ? null : KeySet.Parse(o.Text("keys")), Pins = o.Texts("pins"),
                PinMode = (PinMode)Enum.Parse(typeof(PinMode), o.Text("pinMode") ?? "enforce", true),
                CacheDir = o.Text("cacheDir"), OfflineFallback = o.Has("offlineFallback"),
                OnUnknown = (OnUnknown)Enum.Parse(typeof(OnUnknown), o.Text("onUnknown") ?? "graceThenDeny", true),
                FreshFor = TimeSpan.FromSeconds(o.Number("freshFor", 300)),
                GraceFor = TimeSpan.FromSeconds(o.Number("graceFor", 7 * 86400)),
                ConnectTimeout = TimeSpan.FromSeconds(o.Number("connectTimeout", 2)),
                TotalTimeout = TimeSpan.FromSeconds(o.Number("totalTimeout", 5)),
                PauseAfterFailure = TimeSpan.FromSeconds(o.Number("pauseAfterFailure", 10)),
                MaxUsageQueue = (int)o.Number("maxUsageQueue", 10000),
                Clock = () => DateTimeOffset.UtcNow.AddMilliseconds(Interlocked.Read(ref offset)),
                OnProblem = Note,
            };
            client = new LicenseClient(made);
            return new Members();
        }
        catch (Exception error) when (error is ArgumentException || error is InvalidKeySetException)
        {
            return new Members { ["error"] = error.Message };
        }
    }

    private void Note(string problem)
    {
        lock (problems)
        {
            problems.Add(problem);
        }
    }

    private static Members MiddlewareAnswer(Question q)
    {
        var fake = q.Has("valid") ? FakeLicenseClient.Valid(q.Texts("features") ?? new string[0]) : FakeLicenseClient.Denied(q.Text("code"));
        var guard = new LicenseGuard { Domain = q.Text("domain"), TrustedProxies = q.Texts("trusted").Select(Network.Parse).ToArray() };
        var peer = IPAddress.Parse(q.Text("peer"));
        int status;
        bool? feature = null;
        string body = null;
        if (q.Text("framework") == "plain")
        {
            var result = fake.Validate(guard.DomainOf(peer, q.Text("host"), q.Text("forwarded")));
            status = result.Valid ? 200 : LicenseGuard.StatusOf(result);
            feature = result.Valid ? result.Features.Has("analytics") : (bool?)null;
            body = result.Valid ? null : LicenseGuard.BodyOf(result);
        }
        else
        {
            var context = new HttpContext();
            context.Connection.RemoteIpAddress = peer;
            context.Request.Host = new HostString(q.Text("host"));
            if (q.Text("forwarded") != null)
            {
                context.Request.Headers["X-Forwarded-Host"] = new Microsoft.Extensions.Primitives.StringValues(q.Text("forwarded"));
            }
            var application = new ApplicationBuilder().UseLicense(fake, guard).Use(next => inner =>
            {
                feature = inner.LicenseOf().Features.Has("analytics");
                return next(inner);
            });
            application.Build()(context).GetAwaiter().GetResult();
            status = context.Response.StatusCode;
            body = status == 200 ? null : Encoding.UTF8.GetString(((MemoryStream)context.Response.Body).ToArray());
        }
        string code = null;
        if (body != null)
        {
            using (var members = JsonDocument.Parse(body))
            {
                code = members.RootElement.GetProperty("code").GetString();
            }
        }
        return new Members { ["status"] = status, ["asked"] = fake.Asked[0], ["feature"] = feature, ["code"] = code };
    }

    private static Members Shown(LicenseResult result)
    {
        return new Members
        {
            ["valid"] = result.Valid, ["code"] = result.Code, ["source"] = result.Source, ["age"] = (long)result.Age.TotalSeconds,
            ["features"] = result.Features.ToArray(), ["grace"] = result.Grace, ["problem"] = result.Problem,
        };
    }

    private static Members Shown(LicenseClaims claims)
    {
        var members = new Members
        {
            ["licenseId"] = claims.LicenseId, ["domains"] = claims.Domains, ["plan"] = claims.Plan, ["features"] = claims.Features,
            ["limits"] = claims.Limits, ["issuedAt"] = claims.IssuedAt, ["expiresAt"] = claims.ExpiresAt, ["trial"] = claims.IsTrial,
        };
        if (claims.NotBefore != null)
        {
            members["notBefore"] = claims.NotBefore;
        }
        return members;
    }

    /// <summary>The members of a question, each of which may be absent.</summary>
    private sealed class Question
    {
        private readonly JsonElement members;

        public Question(JsonElement members) => this.members = members;

        public Question Of(string name) => new Question(members.GetProperty(name));

        public string Text(string name) => members.TryGetProperty(name, out var value) ? value.GetString() : null;

        public bool Has(string name) => members.TryGetProperty(name, out var value) && value.GetBoolean();

        public double Number(string name, double standard) => members.TryGetProperty(name, out var value) ? value.GetDouble() : standard;

        public string[] Texts(string name) =>
            members.TryGetProperty(name, out var value) ? value.EnumerateArray().Select(text => text.GetString()).ToArray() : null;
    }
}
